"""All use cases of one service, made once and handed to whoever answers callers."""

from dataclasses import dataclass
from typing import Self

from service.audits import Audits
from service.health import Health
from service.keys import Keys
from service.schedules import Schedules
from service.settings import Settings
from service.store.blobs import open_blobs
from service.store.database import Database
from service.uploads import Uploads
from service.webhooks import Webhooks


@dataclass(frozen=True)
class Desk:
    """The use cases, and the settings they were made with."""

    settings: Settings
    database: Database
    audits: Audits
    health: Health
    keys: Keys
    schedules: Schedules
    uploads: Uploads
    webhooks: Webhooks

    @classmethod
    def open(cls, settings: Settings) -> Self:
        """Open the stores, bring the tables up to date, see to the first key.

        Raises:
            Unavailable: database or blob store do not work.
        """
        settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        database = Database(settings.database_address)
        database.migrate()
        blobs = open_blobs(settings.blob_address, cache=settings.data_dir / "cache")
        desk = cls(
            settings=settings,
            database=database,
            audits=Audits(database, blobs, settings),
            health=Health(database, blobs, settings),
            keys=Keys(database, settings),
            schedules=Schedules(database, settings),
            uploads=Uploads(database, blobs, settings),
            webhooks=Webhooks(database, settings),
        )
        desk.keys.ensure_admin()
        return desk

    def close(self) -> None:
        """Close all connections."""
        self.database.close()
