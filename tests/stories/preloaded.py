"""All that the processes of a story load, in the server that forks them: each begins with it."""

import gc
from importlib import import_module

from tests import shared
from tests.stories.launching import LOADED

for module in LOADED:
    import_module(module)
shared.share()
# What is loaded stays loaded: no process that is forked need look through it for garbage, nor copy its pages.
gc.freeze()
