//! Medians, quartiles, and figures that there are not.

use serde::{Deserialize, Deserializer};

/// The value below which this share of them lies; not a number if there are none.
pub(crate) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).round() as usize).copied().unwrap_or(f64::NAN)
}

/// Lower quartile, median and upper quartile.
pub(crate) fn quartiles(values: &[f64]) -> [f64; 3] {
    [0.25, 0.5, 0.75].map(|share| quantile(values.to_vec(), share))
}

/// For fields that older results do not have.
pub(crate) fn unknown() -> f64 {
    f64::NAN
}

/// JSON writes what is not a number as null; this reads it back.
pub(crate) fn maybe_null<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    Ok(Option::<f64>::deserialize(deserializer)?.unwrap_or(f64::NAN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quartiles_of_few_and_of_none() {
        assert_eq!(quartiles(&[5.0, 1.0, 3.0, 2.0, 4.0]), [2.0, 3.0, 4.0]);
        assert!(quartiles(&[]).iter().all(|value| value.is_nan()));
    }

    #[test]
    fn what_is_not_a_number_survives_json() {
        #[derive(serde::Serialize, Deserialize)]
        struct Row(#[serde(deserialize_with = "maybe_null")] f64);
        let text = serde_json::to_string(&Row(f64::NAN)).expect("is written");
        assert!(serde_json::from_str::<Row>(&text).expect("is read").0.is_nan());
    }
}
