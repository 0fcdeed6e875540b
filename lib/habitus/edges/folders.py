"""Folders of files, wherever Spark can write them."""

import time
from typing import Any

from pyspark.sql import SparkSession

# Seconds within which a file that is being written is finished, or another one.
_MOMENT = 1.0


class Folder:
    """A folder by path or URI, through Hadoop's file systems as Spark itself uses them."""

    def __init__(self, spark: SparkSession, path: str) -> None:
        self._spark = spark
        self.path = path.rstrip("/")
        self._hadoop = self._hadoop_path(self.path)
        self._files = self._hadoop.getFileSystem(spark._jsc.hadoopConfiguration())

    def _hadoop_path(self, path: str) -> Any:
        return self._spark._jvm.org.apache.hadoop.fs.Path(path)  # type: ignore[union-attr]

    def exists(self) -> bool:
        """Whether there is anything at this path."""
        return bool(self._files.exists(self._hadoop))

    def empty(self) -> bool:
        """Whether nothing is in it, or it is not there."""
        return not self.exists() or not self._listed()

    def holds(self, name: str) -> bool:
        """Whether it holds a file or folder of this name."""
        return bool(self._files.exists(self._hadoop_path(f"{self.path}/{name}")))

    def delete(self) -> None:
        """Delete it and all it holds, if it is there."""
        self._files.delete(self._hadoop, True)

    def delete_leftovers(self) -> None:
        """Delete what a writer killed at its first file leaves: hidden files, empty folders.

        A folder that holds anything else stays, with all of it, and one that is still written to.
        """
        leftovers = self._leftovers()
        if leftovers is None:
            return
        # What a living writer hides is finished a moment later.
        time.sleep(_MOMENT)
        if self._leftovers() == leftovers:
            # One by one: what another writer has finished by now stays, and the folder with it.
            for path in leftovers:
                Folder(self._spark, path).delete()
            if self.empty():
                self.delete()

    def _leftovers(self) -> list[str] | None:
        """All that is in it; None if any of it is no leftover, or the folder is not there."""
        if not self.exists():
            return None
        inside = [(str(one.getPath()), one.isDirectory()) for one in self._listed()]
        if all(
            Folder(self._spark, path).empty() if is_folder else _hidden(path)
            for path, is_folder in inside
        ):
            return sorted(path for path, _ in inside)
        return None

    def _listed(self) -> list[Any]:
        return list(self._files.listStatus(self._hadoop))

    def rename(self, path: str) -> None:
        """Move it to where nothing is yet; at once, where the file system can do that.

        Raises:
            OSError: There is no such folder, or the file system refused.
        """
        if not self.exists() or not self._files.rename(self._hadoop, self._hadoop_path(path)):
            raise OSError(f"cannot move {self.path} to {path}")

    def replace_by(self, other: "Folder") -> None:
        """Put another folder in this one's place; at no time is there a mixture of both.

        A kill in between leaves nothing at this path, never half of it.
        """
        aside = Folder(self._spark, f"{self.path}.replaced")
        aside.delete()
        if self.exists():
            self.rename(aside.path)
        other.rename(self.path)
        aside.delete()


def _hidden(path: str) -> bool:
    return path.rpartition("/")[2].startswith(".")
