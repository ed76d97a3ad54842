"""Worker processes: thin Celery tasks for listing, copying, checking, removing and undoing, at the fleet's common pace.

Reading order: `tasks`, `runner` (lease → work → settle), `work` (what a step may use), `lane` (calls to a store),
`pace`, `placing` (what a record becomes), then one module a step.
"""
