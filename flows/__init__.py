"""What happens, in order. One file per process; each reads like the model."""

import logging

logging.getLogger("supply_chain").setLevel(logging.INFO)  # what steps and their commands say belongs to the run's log
