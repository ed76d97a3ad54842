"""Logs, reports of errors, traces and counts of a working fleet. Names and numbers only: no record's text and no key.

logs           events on stderr, for people or as JSON
error_reports  errors among them, reported to Sentry where that is configured
tracing        traces over all processes, where an endpoint is configured
counters       counts that the processes of a fleet share, in Redis
"""
