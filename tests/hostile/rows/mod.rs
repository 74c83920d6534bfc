//! The attacks themselves, a function for each row of the matrix.

mod rollback;
mod signatures;

use super::attack::Attack;
use super::world::Lab;

/// Makes the attacks of one row.
pub(crate) type MakeRow = fn(&Lab) -> Vec<Attack>;

/// Every row that files, and a server that misbehaves, can stage.
pub(crate) const ROWS: &[(&str, MakeRow)] = &[("AT-13", rollback::at_13), ("AT-21", signatures::at_21)];

/// The attacks of one row.
pub(crate) fn row(id: &str, lab: &Lab) -> Vec<Attack> {
    let (_, make) = ROWS.iter().find(|(row, _)| *row == id).unwrap_or_else(|| panic!("there is no row {id}"));
    make(lab)
}
