"""What happens, in order: one file per process, which reads like the model, and what the processes share."""

import logging

logging.getLogger("supply_chain").setLevel(logging.INFO)  # what steps and their commands say belongs to the run's log
