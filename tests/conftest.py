"""What all tests share."""

import pytest

pytest.register_assert_rewrite("tests.contract")  # its assertions say what they saw, as those of any test
