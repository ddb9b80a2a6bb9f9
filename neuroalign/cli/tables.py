"""Tables on the terminal."""

import pandas as pd

__all__ = ["print_table"]


def print_table(frame: pd.DataFrame, title: str | None = None) -> None:
    """Print a table by rich; piped output is one line a row, its values separated by tabs, and the title a comment."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console()
    rows = [[_cell(value) for value in row] for row in frame.itertuples(index=False)]
    if not console.is_terminal:
        lines = [[str(name) for name in frame.columns], *rows]
        print("\n".join([f"# {title}"] * bool(title) + ["\t".join(" ".join(cell.split()) for cell in line)
                                                       for line in lines]))
        return
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for place, name in enumerate(frame.columns):
        numeric = pd.api.types.is_numeric_dtype(frame[name])
        table.add_column(str(name), justify="right" if numeric else "left", overflow="fold", no_wrap=place == 0)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _cell(value) -> str:
    if isinstance(value, float):
        return "–" if pd.isna(value) else f"{value:.3g}" if abs(value) < 0.1 else f"{value:.3f}"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return "–" if value is None or value is pd.NaT or value is pd.NA else str(value)
