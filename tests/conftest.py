"""What all tests run with."""

import os

# As `vqcodec train` sets it, and before torch is imported: sums in MKL are the same in each run.
os.environ.setdefault("MKL_CBWR", "AUTO,STRICT")
