"""``python -m fastgenome`` is the ``fastgenome`` command, as launchers such as torchrun start it."""

from fastgenome.cli import main

if __name__ == "__main__":
    main()
