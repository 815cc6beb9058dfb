"""Benchmarks: accuracy and time of convexjax beside other solvers, every answer certified from outside."""
