"""Policies: what each gate requires and answers. Judging is pure; facts and verdicts go through the evidence store."""
