// SPDX-License-Identifier: GPL-2.0
//! Storage keys.

use crate::state::{Cx, Next};
use kernel::error::Result;

/// INSERT STORAGE KEY EXTENDED.
pub(super) fn iske(_cx: &mut Cx<'_>) -> Result<Next> {
    Ok(Next::Intercept)
}

/// RESET REFERENCE BIT EXTENDED.
pub(super) fn rrbe(_cx: &mut Cx<'_>) -> Result<Next> {
    Ok(Next::Intercept)
}

/// SET STORAGE KEY EXTENDED.
pub(super) fn sske(_cx: &mut Cx<'_>) -> Result<Next> {
    Ok(Next::Intercept)
}

/// PERFORM FRAME MANAGEMENT FUNCTION.
pub(super) fn pfmf(_cx: &mut Cx<'_>) -> Result<Next> {
    Ok(Next::Intercept)
}
