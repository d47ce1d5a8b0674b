"""dataenv: a gymnasium for teachers, agents that decide which training data a student model needs next.

Importing it registers the environments with Gymnasium and loads nothing heavy (no torch).
"""

from dataenv.envs import register_all
from dataenv.errors import DataEnvError
from dataenv.records import Attempt, Example, Feedback, Plan, Problem, Prompt, Request

__version__ = "0.1.0"
__all__ = ["Attempt", "DataEnvError", "Example", "Feedback", "Plan", "Problem", "Prompt", "Request", "__version__"]

register_all()
