"""Distillation: a student learns from what a teacher makes of photographs without masks."""
