"""Seed 003's client of a serverless index."""

from vecfleet.tenancy import PineconeServerlessManager

__all__ = ["PineconeServerlessManager"]
