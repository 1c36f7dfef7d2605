"""On PYTHONPATH of a batch: clips whose name says so kill or hang the process that opens them.

``poison`` in the name crashes it, as a codec may; ``hang`` makes it wait for ever.
"""

import importlib.abc
import importlib.machinery
import os
import signal
import sys
import time


class _Poisoned(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Wraps `gpufuse.videofile.open_video_file` as soon as that module is imported."""

    def find_spec(self, name, path, target=None):
        if name != "gpufuse.videofile":
            return None
        sys.meta_path.remove(self)
        found = importlib.machinery.PathFinder.find_spec(name, path)
        self._loader, found.loader = found.loader, self
        return found

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        opened = module.open_video_file

        def poisoned(path, *arguments, **options):
            if "poison" in path.name:
                os.kill(os.getpid(), signal.SIGSEGV)
            if "hang" in path.name:
                time.sleep(3600)
            return opened(path, *arguments, **options)

        module.open_video_file = poisoned


sys.meta_path.insert(0, _Poisoned())
