//! The noise schedule: linear-quadratic sigmas, as `LTXConditionPipeline` hands them to its flow-match Euler
//! scheduler, and the step of each latent frame along them.
//!
//! All arithmetic is in the width that Python and torch use at the same place, so the results are equal to
//! the last bit.

use reel_bundle::Scheduler;

const THRESHOLD_NOISE: f64 = 0.025;
/// Sigmas closer than this count as equal.
const SIGMA_TOLERANCE: f32 = 1e-6;

/// The steps of one generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    /// What the transformer is told at each step.
    timesteps: Vec<f32>,
    /// The scheduler's sigmas, one for each step and a final 0.
    sigmas: Vec<f32>,
    /// Timesteps per unit of sigma.
    scale: f32,
}

impl Schedule {
    /// The schedule of `steps` denoising steps.
    #[must_use]
    pub fn new(steps: usize, config: &Scheduler) -> Self {
        let scale = config.num_train_timesteps as f32;
        // The pipeline's own factor; the scheduler divides by its configured one.
        let timesteps: Vec<f32> = linear_quadratic(steps)
            .iter()
            .map(|sigma| sigma * 1000.0)
            .collect();
        let mut sigmas: Vec<f32> = timesteps
            .iter()
            .map(|timestep| shift(timestep / scale, config.shift))
            .collect();
        stretch(&mut sigmas, config.shift_terminal);
        sigmas.push(0.0);
        Self {
            timesteps,
            sigmas,
            scale,
        }
    }

    /// How many steps there are.
    #[must_use]
    pub const fn steps(&self) -> usize {
        self.timesteps.len()
    }

    /// What the transformer is told at a step.
    #[must_use]
    pub fn timestep(&self, step: usize) -> f32 {
        self.timesteps[step]
    }

    /// How far a token at `timestep` moves towards the data: from its sigma to the next lower one.
    #[must_use]
    pub fn stride(&self, timestep: f32) -> f32 {
        let sigma = timestep / self.scale;
        let lower = self
            .sigmas
            .iter()
            .filter(|other| **other < sigma - SIGMA_TOLERANCE);
        sigma - lower.fold(0.0, |highest: f32, other| highest.max(*other))
    }
}

/// Half of the steps linear down to `1 - THRESHOLD_NOISE`, then quadratic towards 0.
fn linear_quadratic(steps: usize) -> Vec<f32> {
    if steps < 2 {
        return vec![1.0];
    }
    let (all, linear) = (steps as f64, (steps / 2) as f64);
    let difference = linear - THRESHOLD_NOISE * all;
    let quadratic = all - linear;
    let square = difference / (linear * (quadratic * quadratic));
    let slope = THRESHOLD_NOISE / linear - 2.0 * difference / (quadratic * quadratic);
    let offset = square * (linear * linear);
    let noise = |step: usize| match step < steps / 2 {
        true => step as f64 * THRESHOLD_NOISE / linear,
        false => square * (step * step) as f64 + slope * step as f64 + offset,
    };
    (0..steps).map(|step| (1.0 - noise(step)) as f32).collect()
}

fn shift(sigma: f32, shift: f64) -> f32 {
    let factor = shift as f32;
    factor * sigma / (1.0 + (shift - 1.0) as f32 * sigma)
}

/// Stretches the schedule so that its last sigma is `terminal`.
fn stretch(sigmas: &mut [f32], terminal: Option<f64>) {
    let (Some(terminal), Some(last)) = (terminal, sigmas.last().copied()) else {
        return;
    };
    if terminal == 0.0 {
        return;
    }
    let scale = (1.0 - last) / (1.0 - terminal) as f32;
    for sigma in sigmas {
        *sigma = 1.0 - (1.0 - *sigma) / scale;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(shift: f64, shift_terminal: Option<f64>) -> Scheduler {
        Scheduler {
            num_train_timesteps: 1000,
            shift,
            shift_terminal,
        }
    }

    #[test]
    fn four_steps_are_the_reference() {
        // linear_quadratic_schedule(4) of diffusers.
        let schedule = Schedule::new(4, &config(1.0, None));
        assert_eq!(schedule.sigmas, [1.0, 0.9875, 0.975, 0.725, 0.0]);
        assert_eq!(schedule.timestep(1), 987.5);
    }

    #[test]
    fn one_step_goes_all_the_way() {
        let schedule = Schedule::new(1, &config(1.0, None));
        assert_eq!(
            (
                schedule.steps(),
                schedule.timestep(0),
                schedule.stride(1000.0)
            ),
            (1, 1000.0, 1.0)
        );
    }

    #[test]
    fn strides_of_a_schedule_add_up_to_one() {
        for steps in [1, 2, 3, 7, 20, 200] {
            let schedule = Schedule::new(steps, &config(1.0, None));
            let sum: f32 = (0..steps)
                .map(|step| schedule.stride(schedule.timestep(step)))
                .sum();
            assert!((sum - 1.0).abs() < 1e-5, "{steps} steps: {sum}");
        }
    }

    #[test]
    fn given_frames_do_not_move() {
        assert_eq!(Schedule::new(20, &config(1.0, None)).stride(0.0), 0.0);
    }

    #[test]
    fn a_terminal_sigma_is_reached() {
        let schedule = Schedule::new(8, &config(1.0, Some(0.1)));
        assert!((schedule.sigmas[7] - 0.1).abs() < 1e-6);
    }
}
