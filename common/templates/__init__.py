"""HTML that is filled in: templates beside this file. Whatever is put into one is escaped."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_FOLDER = Path(__file__).parent


def fill(name: str, **values: object) -> str:
    """The template `name` with these values in it; a value that it lacks raises jinja2.UndefinedError."""
    environment = Environment(
        loader=FileSystemLoader(_FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(values)
