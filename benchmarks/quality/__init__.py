"""How good the results are, in figures: scenes, methods to compare with, measures, tables and pictures.

Run by ``python benchmarks/quality_report.py``. `scenes` reads or renders what is fused, `methods` fuses it,
`measures` are pure functions of pictures, `judge` puts the three together, `tables` and `pictures` show the
outcome.
"""
