//! Checks of settings against their ranges.

use crate::base::error::Error;
use crate::base::setting::Setting;

/// Checks a value against the range of its setting. Errors: `InvalidInput` with the name of the setting.
pub(crate) fn in_range(setting: Setting, value: u32) -> Result<(), Error> {
    let (least, most) = setting.range();
    holds(setting, (least..=most).contains(&u64::from(value)))
}

/// Checks a condition on a setting. Errors: `InvalidInput` with the name of the setting.
pub(crate) fn holds(setting: Setting, condition: bool) -> Result<(), Error> {
    if condition { Ok(()) } else { Err(Error::out_of_range(setting)) }
}
