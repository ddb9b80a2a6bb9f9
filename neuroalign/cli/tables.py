"""Tables on the terminal."""

import pandas as pd

__all__ = ["print_table"]


def print_table(frame: pd.DataFrame, title: str | None = None) -> None:
    """Print a table by rich; piped output keeps every row and is as wide as its content."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(frame.columns):
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(str(name), justify="right" if numeric else "left", overflow="fold", no_wrap=place == 0)
    for row in frame.itertuples(index=False):
        table.add_row(*[_cell(value) for value in row])
    if not console.is_terminal:
        wide = Console(width=100_000)  # a console measures no more than its own width
        console = Console(width=max(wide.measure(table).maximum, 40))
    console.print(table)


def _cell(value) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.3g}" if abs(value) < 0.1 else f"{value:.3f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "–" if value is None or value is pd.NaT or value is pd.NA else str(value)
