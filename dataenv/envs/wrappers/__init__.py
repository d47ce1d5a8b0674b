"""Wrappers for the teaching environments. They compose with each other and with Gymnasium's own.

From the inside out: what scales or records the reward, `HideFeedback`, then one of the views (`FlatView`, `TextView`).
"""

from dataenv.envs.wrappers.flat import FlatView
from dataenv.envs.wrappers.hiding import HideFeedback, hidden
from dataenv.envs.wrappers.recording import Recording, read_recording
from dataenv.envs.wrappers.scaling import RewardPerError, RewardPerThousandRows
from dataenv.envs.wrappers.text import TextView

__all__ = [
    "FlatView",
    "HideFeedback",
    "Recording",
    "RewardPerError",
    "RewardPerThousandRows",
    "TextView",
    "hidden",
    "read_recording",
]
