//! Several views of one picture: one decoding, as many crops and changes as a method compares.

use rand::Rng;

use crate::{Element, Error, ImageRef, Layout, Normalise, Plan, Size, Transform, Workspace};

/// One view of a picture: what happens to it, and the size that it has then.
pub struct View {
    /// What happens.
    pub transform: Box<dyn Transform>,
    /// The size of what comes out, whatever the picture's.
    pub size: Size,
}

/// The views that a method makes of one picture.
///
/// ```
/// use pretext_augment::{Image, Layout, Normalise, Size, Workspace, presets};
/// use rand::{SeedableRng, rngs::StdRng};
///
/// let picture = Image::filled(Size { width: 213, height: 160 }, [90, 120, 60]);
/// let views = presets::by_name("swav")?.views_at(112); // 2 views of 112 px and 6 of 48 px
/// let plans = views.sample(picture.size(), &mut StdRng::seed_from_u64(0));
/// let mut outputs: Vec<Vec<f32>> =
///     views.sizes().map(|size| vec![0.0; 3 * size.area() as usize]).collect();
/// let mut slices: Vec<&mut [f32]> = outputs.iter_mut().map(|view| &mut view[..]).collect();
/// let workspace = &mut Workspace::new();
/// pretext_augment::write_views(
///     &plans, picture.view(), &Normalise::IMAGENET, Layout::Chw, workspace, &mut slices,
/// )?;
/// assert_eq!((outputs[0].len(), outputs[7].len()), (3 * 112 * 112, 3 * 48 * 48));
/// # Ok::<(), pretext_augment::Error>(())
/// ```
pub struct Views(Vec<View>);

impl Views {
    /// These views, in this order.
    pub fn new(views: Vec<View>) -> Self {
        Self(views)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The views, in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, View> {
        self.0.iter()
    }

    /// The size of each view.
    pub fn sizes(&self) -> impl ExactSizeIterator<Item = Size> + '_ {
        self.0.iter().map(|view| view.size)
    }

    /// Decides what happens in each view of a picture of this size; all draw from one stream, one
    /// after the other.
    pub fn sample(&self, size: Size, rng: &mut dyn Rng) -> Vec<Plan> {
        self.0.iter().map(|view| view.transform.sample(size, rng)).collect()
    }
}

impl<'a> IntoIterator for &'a Views {
    type Item = &'a View;
    type IntoIter = std::slice::Iter<'a, View>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// Writes a view for each plan, all of one picture, each to its own place; see [`Plan::write`].
///
/// # Errors
/// If there is another number of places than of plans, or one is not of its view's size.
pub fn write_views<E: Element>(
    plans: &[Plan],
    picture: ImageRef<'_>,
    normalise: &Normalise,
    layout: Layout,
    workspace: &mut Workspace,
    outputs: &mut [&mut [E]],
) -> Result<(), Error> {
    if plans.len() != outputs.len() {
        return Err(Error::Views { plans: plans.len(), outputs: outputs.len() });
    }
    for (plan, output) in plans.iter().zip(outputs) {
        plan.write(picture, normalise, layout, workspace, output)?;
    }
    Ok(())
}
