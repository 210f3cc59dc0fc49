"""How much faster than a plain loop the bench is: `python -m benchmarks.speed`."""
