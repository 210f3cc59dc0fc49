"""Measurements that need no stacked training: forward passes, weights, data."""
