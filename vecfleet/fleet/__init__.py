"""Steer a fleet from a program: `FleetClient(address, token).wait(job, PROVEN, within_s=3_600)`.

models  the requests and answers of the fleet's HTTP API, which the service reads and writes too
client  the calls, each sent again under one key until it is answered
"""

from vecfleet.fleet.client import PROVEN, FleetClient, NotAllowed, NotReached, StillUnderWay

__all__ = ["PROVEN", "FleetClient", "NotAllowed", "NotReached", "StillUnderWay"]
