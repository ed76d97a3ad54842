"""`vecfleet serve`: one process with the operator's page, the tenants' API, the routes and the metrics."""
