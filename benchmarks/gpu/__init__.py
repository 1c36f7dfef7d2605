"""Parts of `benchmarks/gpu_report.py`: each module does one thing and keeps no state."""
