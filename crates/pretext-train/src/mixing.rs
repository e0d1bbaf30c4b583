//! Mixing the views of a batch (mixup), wherever they lie and however many processes share it.

use candle_core::Tensor;
use pretext_augment::{Mixup, MixupParams};

use crate::batch;
use crate::error::Result;
use crate::lent::Values;
use crate::ranks::Ranks;
use crate::recipe::FinetuneRecipe;
use crate::streams::{Purpose, stream};

/// Mixes the views of a batch, if the recipe says so; `step` counts all steps of the run. `first` of
/// the batch's `count` views come before those that are here. Returns the labels of the views that
/// were mixed in, and the share of the first ones.
pub(crate) fn mix(
    recipe: &FinetuneRecipe,
    views: &mut Values<1>,
    labels: &[u32],
    ranks: &Ranks,
    (first, count): (usize, usize),
    step: u64,
) -> Result<Option<(Vec<u32>, f64)>> {
    let numbers = batch::numbers(recipe.common.size);
    if recipe.mixup <= 0.0 || count < 2 {
        return Ok(None);
    }
    let mut stream = stream(recipe.common.seed, 0, step, Purpose::Mix);
    let mix = Mixup { alpha: recipe.mixup }.sample(count, &mut stream);
    // Partners may be in another process's part: each mixes the whole batch, and keeps its own.
    let own = labels.len();
    match views {
        Values::Lent([views]) if ranks.size() == 1 => {
            mix.apply(&mut views.chunks_exact_mut(numbers).collect::<Vec<_>>());
        }
        Values::Lent([views]) => {
            let mut all = ranks.gather(views, first * numbers, count * numbers)?;
            mix.apply(&mut all.chunks_exact_mut(numbers).collect::<Vec<_>>());
            let length = views.len();
            views.copy_from_slice(&all[first * numbers..][..length]);
        }
        Values::There([views]) => {
            // As they lie, and as the network takes them.
            let part = views.permute((0, 2, 3, 1))?;
            let all = ranks.gather_tensor(&part, first, count)?;
            let mixed = mixed(&all, &mix)?.narrow(0, first, own)?.contiguous()?;
            *views = recipe.common.precision.cast(&mixed)?.permute((0, 3, 1, 2))?;
        }
    }
    let labels: Vec<f32> = labels.iter().map(|&label| label as f32).collect();
    let labels = ranks.gather(&labels, first, count)?;
    let partners = mix.partner[first..][..own].iter();
    Ok(Some((partners.map(|&i| labels[i] as u32).collect(), f64::from(mix.lambda))))
}

/// The same as [`MixupParams::apply`] on `[N, H, W, 3]`, wherever it lies.
fn mixed(views: &Tensor, mix: &MixupParams) -> Result<Tensor> {
    let partner: Vec<u32> = mix.partner.iter().map(|&i| i as u32).collect();
    let partner = Tensor::new(&partner[..], views.device())?;
    let others = (views.index_select(&partner, 0)? * f64::from(1.0 - mix.lambda))?;
    Ok(((views * f64::from(mix.lambda))? + others)?)
}

#[cfg(test)]
mod tests {
    use candle_core::Device;

    use super::*;
    use crate::recipe::Common;

    #[test]
    fn mixed_where_they_lie_pictures_are_the_same() {
        let values: Vec<f32> = (0..3 * 12).map(|i| (i as f32).sin()).collect();
        let mix = MixupParams { lambda: 0.7, partner: vec![2, 0, 1] };
        let views = Tensor::from_vec(values.clone(), (3, 3, 2, 2), &Device::Cpu).unwrap();
        let got = mixed(&views, &mix).unwrap().flatten_all().unwrap().to_vec1::<f32>().unwrap();
        let mut want: Vec<Vec<f32>> = values.chunks(12).map(<[f32]>::to_vec).collect();
        mix.apply(&mut want);
        assert_eq!(got, want.concat());
    }

    #[test]
    fn labels_go_with_the_views_that_were_mixed_in() {
        const COUNT: usize = 6;
        let common = Common { size: 2, ..Common::default() };
        let recipe = FinetuneRecipe { common, mixup: 0.4, ..FinetuneRecipe::default() };
        let numbers = batch::numbers(2);
        // Each view is its own number, and its label ten times that.
        let whole: Vec<f32> = (0..COUNT * numbers).map(|i| (i / numbers) as f32).collect();
        let labels: Vec<u32> = (0..COUNT as u32).map(|i| 10 * i).collect();
        let mut moved = 0;
        for step in 0..20 {
            let mut lent = Values::Lent([whole.clone()]);
            let there = Tensor::from_slice(&whole, (COUNT, 2, 2, 3), &Device::Cpu).unwrap();
            let mut there = Values::There([there.permute((0, 3, 1, 2)).unwrap()]);
            let (ranks, part) = (Ranks::alone(), (0, COUNT));
            let (partners, share) =
                mix(&recipe, &mut lent, &labels, &ranks, part, step).unwrap().unwrap();
            let again = mix(&recipe, &mut there, &labels, &ranks, part, step).unwrap().unwrap();
            assert_eq!(again, (partners.clone(), share));
            let (Values::Lent([lent]), Values::There([there])) = (lent, there) else { panic!() };
            assert!(there.permute((0, 2, 3, 1)).unwrap().is_contiguous());
            assert_eq!(there.flatten_all().unwrap().to_vec1::<f32>().unwrap(), lent);
            for (i, view) in lent.chunks(numbers).enumerate() {
                let partner = f64::from(partners[i]) / 10.0;
                let want = share * i as f64 + (1.0 - share) * partner;
                assert!(view.iter().all(|&v| (f64::from(v) - want).abs() < 1e-5), "{i}: {view:?}");
                moved += usize::from(partner != i as f64);
            }
        }
        assert!(moved > COUNT);
    }
}
