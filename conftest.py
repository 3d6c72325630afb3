"""Doctests are collected from every module; these import a framework that need not be there."""

collect_ignore_glob = ["fastnn/bench/contenders/*_mlp.py"]
