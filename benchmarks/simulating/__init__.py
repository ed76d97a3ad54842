"""The real dispatcher, ledger, pace and worker steps on a clock that is only counted.

Reading order: `fleet` (what is real and what is modelled), `kernel` (time and processors), `world` (who spends how much
of them), `costs` (what a unit of work takes), `parts` (how the real code is told the time). `limited` is a smaller
world: workers that only call, and a service with limits.
"""
