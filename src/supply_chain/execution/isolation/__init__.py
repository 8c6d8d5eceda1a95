"""Isolation of an application: quarantine, what an investigation needs as sealed evidence, and recovery."""
