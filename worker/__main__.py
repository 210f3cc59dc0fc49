"""`python -m worker`: one worker, set up by the environment."""

import sys

from worker.supervise import main

if __name__ == "__main__":
    sys.exit(main())
