"""The release of our images: built, pushed, described by an SBOM, signed, and pinned by digest."""
