"""The words that service and worker both speak: plain pydantic models, nothing else."""
