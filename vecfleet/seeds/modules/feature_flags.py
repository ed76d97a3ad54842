"""The flags of seeds 000 and 003, and the question of seed 001's gradual roll-out."""

from vecfleet.tenancy import use_creator_namespaces, use_delphi_namespaces, use_serverless

__all__ = ["use_creator_namespaces", "use_delphi_namespaces", "use_serverless"]
