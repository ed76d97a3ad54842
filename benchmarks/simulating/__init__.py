"""The real dispatcher, ledger, pace and worker steps on a clock that is only counted: `kernel` has the time and the
processors, `world` puts the real parts on it, `costs` says what each of them takes.
"""
