"""Evaluation: ranks, baselines, rerankers, downstream evaluators, tables and plots."""
