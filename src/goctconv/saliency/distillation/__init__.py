"""Distillation: a student learns from what a teacher makes of photographs without masks."""

from ._config import DistillationConfig as DistillationConfig
from ._distill import distill as distill
from ._teacher import DistillationStep as DistillationStep
from ._teacher import TeacherAgreement as TeacherAgreement
