"""The desktop window: a run's timeline under a slider, followed while it grows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from geomopt.viewer.plotter import INK, Stage, make_plotter, require_display
from geomopt.viewer.record import bounds_of
from geomopt.viewer.timeline import Timeline

HELP = "space: play, pause   left, right: step   home, end: first, last   r: reset view   q: close"
_TICK = 80  # milliseconds between frames while playing
_LOOK = 1000  # milliseconds between looks for new frames


def view(folder: str | Path) -> None:
    """Open the window on a run directory and return when it is closed; raises BackendUnavailable
    without a display.
    """
    timeline = Timeline(folder)
    timeline.require_frames()
    require_display()
    Desktop(timeline, off_screen=False).show()


class Desktop:
    """A timeline in a window; off-screen it does the same without one, which is how it is tested.

    The index moves by slider, keys or timer, and all of them go through `go_to`. While the last
    frame is shown, new frames of a running job are shown as they come.
    """

    def __init__(
        self, timeline: Timeline, off_screen: bool = False, size: tuple[int, int] = (1200, 720)
    ) -> None:
        self.timeline = timeline
        self.playing = False
        self.index = len(timeline) - 1
        self.plotter = make_plotter(timeline[-1], size, off_screen)
        self.stage = Stage(self.plotter)
        self._waited = 0
        self.stage.draw(timeline[self.index], timeline.caption(self.index))
        bounds = bounds_of([timeline[0], timeline[-1]])
        if bounds is not None:
            self.stage.look_at(bounds)
        self.plotter.add_text(HELP, position="upper_left", font_size=8, color=INK, name="help")
        self.slider = self._add_slider()
        self._add_keys()

    def show(self) -> None:
        """Show the window until it is closed."""
        self.plotter.title = f"geomopt: {self.timeline.run.name}"
        interactor = self.plotter.iren
        interactor.initialize()
        interactor.add_observer("TimerEvent", lambda *_: self.tick())
        interactor.create_timer(_TICK, repeating=True)
        self.plotter.show()

    def go_to(self, index: int) -> None:
        """Show a frame and move the slider there."""
        self.index = min(max(index, 0), len(self.timeline) - 1)
        self.stage.draw(self.timeline[self.index], self.timeline.caption(self.index))
        representation = self.slider.GetRepresentation()
        representation.SetMaximumValue(max(len(self.timeline) - 1, 1))
        representation.SetValue(self.index)
        self.plotter.render()

    def step(self, by: int) -> None:
        """Move by some frames and stop playing."""
        self.playing = False
        self.go_to(self.index + by)

    def toggle(self) -> None:
        """Play or pause; playing from the last frame begins again."""
        self.playing = not self.playing
        if self.playing and self.index == len(self.timeline) - 1:
            self.go_to(0)

    def tick(self) -> None:
        """What the timer does: advance while playing, and look for new frames now and then."""
        self._waited += _TICK
        if self._waited >= _LOOK:
            self._waited = 0
            self.follow()
        if self.playing:
            if self.index < len(self.timeline) - 1:
                self.go_to(self.index + 1)
            else:
                self.playing = False

    def follow(self) -> None:
        """Take in frames that were written since; a view of the last frame stays at the last."""
        at_end = self.index == len(self.timeline) - 1
        if self.timeline.refresh():
            self.go_to(len(self.timeline) - 1 if at_end and not self.playing else self.index)

    def _add_slider(self) -> Any:
        self.plotter.subplot(0, 0)
        slider = self.plotter.add_slider_widget(
            lambda value: self._slid(round(value)),
            (0, max(len(self.timeline) - 1, 1)),
            value=self.index,
            pointa=(0.06, 0.12),
            pointb=(0.94, 0.12),
            color=INK,
            interaction_event="always",
            style="modern",
        )
        representation = slider.GetRepresentation()
        representation.ShowSliderLabelOff()  # the caption names the iteration
        representation.SetTubeWidth(0.004)
        representation.SetSliderWidth(0.022)
        representation.SetSliderLength(0.014)
        return slider

    def _slid(self, index: int) -> None:
        # PyVista calls back once while it makes the widget
        if hasattr(self, "slider") and index != self.index:
            self.step(index - self.index)

    def _add_keys(self) -> None:
        if self.plotter.iren is None:
            return
        keys = {
            "space": self.toggle,
            "Left": lambda: self.step(-1),
            "Right": lambda: self.step(1),
            "Home": lambda: self.step(-len(self.timeline)),
            "End": lambda: self.step(len(self.timeline)),
        }
        for key, action in keys.items():
            self.plotter.add_key_event(key, action)
