//! Tables without lines.

use comfy_table::Table;
use comfy_table::presets::NOTHING;

/// Creates a table with these headings.
pub(crate) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING).set_header(header.to_vec());
    table
}

/// Formats a table without padding at its left and right.
pub(crate) fn lines_of(mut table: Table) -> String {
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.trim_fmt()
}
