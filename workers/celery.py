"""Celery looks here for the app: `celery -A workers worker`. Without the address of a broker no command begins."""

from workers.starting import require_broker_address
from workers.tasks import celery as app

__all__ = ["app"]

require_broker_address()
