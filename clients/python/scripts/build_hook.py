"""Makes the generated part of the package whenever it is built or installed."""

from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class BuildHook(BuildHookInterface[Any]):
    """Called by hatchling, see `tool.hatch.build.hooks.custom`."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Generates anew in a checkout; an sdist has it already, and no proto to make it from."""
        import os
        import sys

        sys.path.insert(0, os.path.join(self.root, "scripts"))
        import generate

        if (generate.PROTO / "doorbell" / "v1").is_dir():
            generate.main()
