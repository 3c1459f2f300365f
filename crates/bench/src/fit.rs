//! Ratios that survive a drifting machine.
//!
//! log(cost) of a run = its server's level + the machine's speed at that time. The speed is a line through knots, one per
//! so many minutes of runs: slow drift goes there and not into the servers. Least squares give the levels and, from what is
//! left over, their standard errors.

/// One measured run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    /// Which server, from 0.
    pub(crate) server: usize,
    /// When, in seconds.
    pub(crate) at_s: f64,
    /// Cost, any positive unit.
    pub(crate) cost: f64,
}

/// How a server's cost compares with the first one's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Ratio {
    /// Cost of server 0 over cost of this one: above 1 is cheaper.
    pub(crate) cheaper: f64,
    /// Standard error of `cheaper`.
    pub(crate) error: f64,
}

/// Rounds of runs per knot of the speed's line.
const ROUNDS_PER_KNOT: usize = 4;

/// Ratios of `servers` servers to server 0, or `None` when there are too few runs to tell.
pub(crate) fn ratios(samples: &[Sample], servers: usize) -> Option<Vec<Ratio>> {
    let rounds = samples.len() / servers.max(1);
    let knots = (rounds / ROUNDS_PER_KNOT).max(1) + 1;
    let columns = servers + knots - 1;
    if samples.len() <= columns {
        return None;
    }
    let start = samples.iter().map(|sample| sample.at_s).fold(f64::INFINITY, f64::min);
    let end = samples.iter().map(|sample| sample.at_s).fold(f64::NEG_INFINITY, f64::max);
    let row = |sample: &Sample| {
        let mut row = vec![0.0; columns];
        row[sample.server] = 1.0;
        // The first knot is the origin of the speed, else levels and speed could shift against each other.
        let place = (sample.at_s - start) / (end - start).max(1e-9) * (knots - 1) as f64;
        let left = (place.floor() as usize).min(knots - 2);
        for (knot, weight) in [(left, 1.0 - (place - left as f64)), (left + 1, place - left as f64)] {
            if knot > 0 {
                row[servers + knot - 1] += weight;
            }
        }
        row
    };
    let rows: Vec<Vec<f64>> = samples.iter().map(row).collect();
    let values: Vec<f64> = samples.iter().map(|sample| sample.cost.ln()).collect();
    let (solution, inverse) = least_squares(&rows, &values)?;
    let left_over: f64 = rows
        .iter()
        .zip(&values)
        .map(|(row, value)| (value - row.iter().zip(&solution).map(|(a, b)| a * b).sum::<f64>()).powi(2))
        .sum();
    let variance = left_over / (samples.len() - columns) as f64;
    let ratio = |server: usize| {
        let cheaper = (solution[0] - solution[server]).exp();
        let spread = inverse[0][0] + inverse[server][server] - 2.0 * inverse[0][server];
        Ratio { cheaper, error: cheaper * (variance * spread).max(0.0).sqrt() }
    };
    Some((0..servers).map(ratio).collect())
}

type Matrix = Vec<Vec<f64>>;

/// Solution of the normal equations, and the inverse of their matrix.
fn least_squares(rows: &[Vec<f64>], values: &[f64]) -> Option<(Vec<f64>, Matrix)> {
    let size = rows.first()?.len();
    let mut matrix = vec![vec![0.0; size]; size];
    let mut right = vec![0.0; size];
    for (row, value) in rows.iter().zip(values) {
        for i in 0..size {
            right[i] += row[i] * value;
            for j in 0..size {
                matrix[i][j] += row[i] * row[j];
            }
        }
    }
    let inverse = invert(matrix)?;
    let solution = inverse.iter().map(|row| row.iter().zip(&right).map(|(a, b)| a * b).sum()).collect();
    Some((solution, inverse))
}

/// Gauss-Jordan with partial pivoting; `None` if singular.
fn invert(mut matrix: Matrix) -> Option<Matrix> {
    let size = matrix.len();
    let mut inverse: Matrix = (0..size).map(|i| (0..size).map(|j| f64::from(u8::from(i == j))).collect()).collect();
    for column in 0..size {
        let pivot = (column..size).max_by(|a, b| matrix[*a][column].abs().total_cmp(&matrix[*b][column].abs()))?;
        if matrix[pivot][column].abs() < 1e-12 {
            return None;
        }
        matrix.swap(column, pivot);
        inverse.swap(column, pivot);
        let scale = 1.0 / matrix[column][column];
        for table in [&mut matrix, &mut inverse] {
            table[column].iter_mut().for_each(|cell| *cell *= scale);
        }
        for row in (0..size).filter(|row| *row != column) {
            let factor = matrix[row][column];
            for table in [&mut matrix, &mut inverse] {
                let source = table[column].clone();
                table[row].iter_mut().zip(source).for_each(|(cell, value)| *cell -= factor * value);
            }
        }
    }
    Some(inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two servers, the second 1.25 times cheaper, on a machine whose speed changes by half in between.
    fn drifting(noise: f64) -> Vec<Sample> {
        let mut random = 12345u64;
        let mut noise = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            ((random >> 33) as f64 / (1u64 << 31) as f64 - 0.5) * noise
        };
        let run = |n: usize, noise: f64| {
            let at_s = n as f64;
            let level = if n.is_multiple_of(2) { 1.0 } else { 0.8 };
            Sample { server: n % 2, at_s, cost: level * (1.0 + 0.5 * (at_s / 40.0).sin()) * noise.exp() }
        };
        (0..80).map(|n| run(n, noise())).collect()
    }

    #[test]
    fn drift_does_not_reach_the_ratio() {
        let ratios = ratios(&drifting(0.0), 2).unwrap();
        assert!((ratios[1].cheaper - 1.25).abs() < 0.01, "{ratios:?}");
        assert_eq!(ratios[0].cheaper, 1.0);
    }

    #[test]
    fn the_error_covers_the_noise() {
        let ratios = ratios(&drifting(0.2), 2).unwrap();
        assert!((ratios[1].cheaper - 1.25).abs() < 3.0 * ratios[1].error, "{ratios:?}");
        assert!((0.005..0.05).contains(&ratios[1].error), "{ratios:?}");
    }

    #[test]
    fn too_few_runs_tell_nothing() {
        assert_eq!(ratios(&drifting(0.0)[..2], 2), None);
    }
}
