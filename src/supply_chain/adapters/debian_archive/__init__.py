"""Archives of Debian packages, such as deb.debian.org."""

from supply_chain.adapters.debian_archive.archive import DebianArchives

__all__ = ["DebianArchives"]
