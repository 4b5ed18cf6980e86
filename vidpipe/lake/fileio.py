"""How pyiceberg reaches S3: through pyarrow, except that it deletes through boto3.

After a deletion pyarrow writes an empty object for the parent "folder", so that it does not
disappear. Nobody needs those, and `rclone serve s3` loses sight of the files in a folder whose
marker is written while others write into it.
"""

from __future__ import annotations

from pyiceberg.io import InputFile, OutputFile
from pyiceberg.io.pyarrow import PyArrowFileIO

from vidpipe.config import S3Settings
from vidpipe.lake.store import ObjectStore


class LakeFileIO(PyArrowFileIO):
    """PyArrowFileIO that leaves no folder markers behind."""

    def delete(self, location: str | InputFile | OutputFile) -> None:
        """Deletes an object."""
        uri = location if isinstance(location, str) else location.location
        settings = S3Settings(
            endpoint_url=self.properties.get("s3.endpoint", ""),
            region=self.properties.get("s3.region", ""),
            access_key_id=self.properties.get("s3.access-key-id", ""),
            secret_access_key=self.properties.get("s3.secret-access-key", ""),
        )
        ObjectStore(settings).delete(uri)
