"""The tenants' HTTP API: `app.include_router(delphi_router(tokens=TokenFile("tokens.json")))`. Needs the extra `api`.

`router` has the endpoints, `models` the requests and answers, `users` the askers, `rate` their limits, and `problems`
the form of a refusal.
"""

from vecfleet.embedders import Embedder, OpenAIEmbedder
from vecfleet.tenancy.api.rate import RateLimit
from vecfleet.tenancy.api.router import delphi_router
from vecfleet.tenancy.api.users import bearer
from vecfleet.tenancy.tokens import TokenFile

__all__ = ["Embedder", "OpenAIEmbedder", "RateLimit", "TokenFile", "bearer", "delphi_router"]
