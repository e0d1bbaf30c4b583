//! Transforms made of transforms.

use rand::Rng;

use crate::transform::{happens, whole};
use crate::{Plan, Size, Transform};

/// Several transforms, one after the other.
///
#[cfg_attr(doc, doc = include_str!("../../docs/Compose.md"))]
///
/// ```
/// use pretext_augment::{Compose, HorizontalFlip, Image, RandomResizedCrop, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let train = Compose::new(vec![
///     Box::new(RandomResizedCrop::fastai(64)),
///     Box::new(HorizontalFlip::default()),
/// ]);
/// let image = Image::filled(Size { width: 90, height: 70 }, [1, 2, 3]);
/// assert_eq!(train.augment(image, &mut StdRng::seed_from_u64(0)).size(), Size::square(64));
/// ```
pub struct Compose(Vec<Box<dyn Transform>>);

impl Compose {
    /// First to last.
    pub fn new(transforms: Vec<Box<dyn Transform>>) -> Self {
        Self(transforms)
    }
}

impl Transform for Compose {
    fn sample(&self, size: Size, rng: &mut dyn Rng) -> Plan {
        let mut plan = Plan::nothing();
        let mut size = size;
        for transform in &self.0 {
            let next = transform.sample(size, rng);
            size = next.output_size(size);
            plan.0.extend(next.0);
        }
        plan
    }
}

/// One of several transforms, each with equal probability; with none, nothing happens.
///
#[cfg_attr(doc, doc = include_str!("../../docs/OneOf.md"))]
///
/// ```
/// use pretext_augment::{Colourise, CutOut, Image, OneOf, Plan, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let one_of = OneOf::new(vec![Box::new(Colourise), Box::new(CutOut::default())]);
/// let mut rng = StdRng::seed_from_u64(0);
/// assert_eq!(one_of.sample(Size::square(64), &mut rng).0.len(), 1);
/// assert_eq!(OneOf::new(vec![]).sample(Size::square(64), &mut rng), Plan::nothing());
/// ```
pub struct OneOf(Vec<Box<dyn Transform>>);

impl OneOf {
    /// To choose from.
    pub fn new(transforms: Vec<Box<dyn Transform>>) -> Self {
        Self(transforms)
    }
}

impl Transform for OneOf {
    fn sample(&self, size: Size, rng: &mut dyn Rng) -> Plan {
        let last = (self.0.len() as u32).saturating_sub(1);
        let choice = whole(0, last, rng) as usize;
        self.0.get(choice).map_or_else(Plan::nothing, |transform| transform.sample(size, rng))
    }
}

/// A transform that happens with probability `p`.
///
#[cfg_attr(doc, doc = include_str!("../../docs/Probability.md"))]
///
/// ```
/// use pretext_augment::{GaussianBlur, Probability, Size, Transform};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// // SimCLR's blur (Chen et al., 2020).
/// let blur = Probability { p: 0.5, transform: GaussianBlur::new(23, 0.1..=2.0) };
/// let mut rng = StdRng::seed_from_u64(0);
/// let happened = (0..1000).filter(|_| !blur.sample(Size::square(8), &mut rng).0.is_empty());
/// assert!((450..550).contains(&happened.count()));
/// ```
pub struct Probability<T> {
    /// The probability, `0..=1`.
    pub p: f32,
    /// What happens.
    pub transform: T,
}

impl<T: Transform> Transform for Probability<T> {
    fn sample(&self, size: Size, rng: &mut dyn Rng) -> Plan {
        if happens(self.p, rng) { self.transform.sample(size, rng) } else { Plan::nothing() }
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng as _, rngs::StdRng};

    use super::*;
    use crate::{Colourise, HorizontalFlip, Op};

    #[test]
    fn one_of_chooses_evenly() {
        let one_of = OneOf::new(vec![Box::new(Colourise), Box::new(HorizontalFlip { p: 1.0 })]);
        let mut rng = StdRng::seed_from_u64(0);
        let flips = (0..2000)
            .filter(|_| matches!(one_of.sample(Size::square(2), &mut rng).0[..], [Op::Flip(_)]))
            .count();
        assert!((900..1100).contains(&flips), "{flips}");
        assert_eq!(OneOf::new(vec![]).sample(Size::square(2), &mut rng), Plan::nothing());
    }

    #[test]
    fn probability_is_kept() {
        let maybe = Probability { p: 0.2, transform: Colourise };
        let mut rng = StdRng::seed_from_u64(0);
        let happened =
            (0..5000).filter(|_| !maybe.sample(Size::square(2), &mut rng).0.is_empty()).count();
        assert!((900..1100).contains(&happened), "{happened}");
    }
}
