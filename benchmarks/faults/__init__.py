"""How well audits name planted and real faults, and how often they cry wolf.

Everything here is a referee: it trains with plain PyTorch and never with the engine,
except `drive.py` (asks the engine) and `random_search.py` (borrows its bench).
"""
