"""Celery looks here for the app: `celery -A workers worker`."""

from workers.tasks import celery as app

__all__ = ["app"]
