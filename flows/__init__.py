"""The flows, one module for each process."""

import logging

logging.getLogger("supply_chain").setLevel(logging.INFO)  # messages of steps and their commands go to the run's log
