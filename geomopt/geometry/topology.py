"""Who touches whom in a triangle mesh: edges, neighbours, boundaries and what follows.

Everything comes from one sort of the 3F directed edges of the faces. An edge is a pair of vertices,
lower index first, and edges are in lexicographic order; edge k of a face joins its corners k and k
+ 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from geomopt.errors import InputError, check_indices


@dataclass(frozen=True, eq=False)
class Topology:
    """The connectivity of F faces; every tensor is int32 on the device of the faces.

    faces (F, 3); edges (E, 2), lower index first; edge_faces (E, 2), the first two faces of each
    edge in ascending order, -1 where there is none; opposite_vertices (E, 2), the third vertex of
    those faces, -1 likewise; face_edges (F, 3), where edge k joins corners k and (k + 1) % 3;
    edge_uses (E,), how many faces hold the edge; forward_uses (E,), how many of them run from its
    lower to its higher vertex.
    """

    faces: Tensor
    vertex_count: int
    edges: Tensor
    edge_faces: Tensor
    opposite_vertices: Tensor
    face_edges: Tensor
    edge_uses: Tensor
    forward_uses: Tensor

    @classmethod
    def of(cls, faces: Tensor, vertex_count: int) -> Topology:
        """Find the edges of `faces` (F, 3), int32 or int64 with entries in [0, vertex_count).

        Raises InputError for other shapes and dtypes, indices out of range, and faces that name a
        vertex twice.
        """
        check_indices("faces", faces, (None, 3), vertex_count)
        corners = faces.long()
        ends = corners.roll(-1, dims=1)
        repeated = int((corners == ends).any(dim=1).sum())
        if repeated:
            raise InputError(
                f"faces must name three different vertices each, got {repeated} that repeat one"
            )
        low, high = torch.minimum(corners, ends).flatten(), torch.maximum(corners, ends).flatten()
        keys, order = torch.sort(low * vertex_count + high, stable=True)
        unique, inverse, uses = torch.unique_consecutive(
            keys, return_inverse=True, return_counts=True
        )
        first = uses.cumsum(0) - uses  # place of each edge's first use in the sorted list

        face_edges = torch.empty_like(order)
        face_edges[order] = inverse
        has_two = uses > 1
        # a second use that is not there would index past the end
        uses_of_edge = torch.stack(
            [order[first], order[torch.where(has_two, first + 1, first)]], dim=1
        )
        present = torch.stack([torch.ones_like(has_two), has_two], dim=1)
        third = corners.roll(-2, dims=1).flatten()
        forward = torch.zeros_like(uses).index_add_(
            0, face_edges, (corners < ends).flatten().long()
        )
        return cls(
            faces=faces.int(),
            vertex_count=vertex_count,
            edges=torch.stack(
                [unique // max(vertex_count, 1), unique % max(vertex_count, 1)], dim=1
            ).int(),
            edge_faces=torch.where(present, uses_of_edge // 3, -1).int(),
            opposite_vertices=torch.where(present, third[uses_of_edge], -1).int(),
            face_edges=face_edges.reshape(-1, 3).int(),
            edge_uses=uses.int(),
            forward_uses=forward.int(),
        )

    def boundary_edges(self) -> Tensor:
        """Indices (K,) int32 of the edges that one face holds."""
        return _where(self.edge_uses == 1)

    def nonmanifold_edges(self) -> Tensor:
        """Indices (K,) int32 of the edges that more than two faces hold."""
        return _where(self.edge_uses > 2)

    def miswound_edges(self) -> Tensor:
        """Indices (K,) int32 of the edges that two faces or more run along in one direction."""
        return _where((self.forward_uses > 1) | (self.edge_uses - self.forward_uses > 1))

    def nonmanifold_vertices(self) -> Tensor:
        """Indices (K,) int32 of the vertices whose faces form more than one fan.

        A fan is a set of faces around the vertex that are joined through edges which hold it.
        """
        corners = self.faces.flatten().long()
        before, after = self._uses_of_one_edge()
        # along a shared edge, join the two faces' corners at its lower and at its higher vertex
        pairs = [
            torch.stack([_corner_at(corners, before, end), _corner_at(corners, after, end)])
            for end in (torch.minimum, torch.maximum)
        ]
        fan, count = connected_labels(torch.cat(pairs, dim=1), corners.numel())
        vertex_of_fan = torch.zeros(count, dtype=torch.int64, device=corners.device)
        vertex_of_fan[fan] = corners
        fans = torch.bincount(vertex_of_fan, minlength=self.vertex_count)
        return _where(fans > 1)

    def face_neighbors(self) -> Tensor:
        """The face across each edge of a face, (F, 3) int32; -1 unless two faces meet there."""
        pair = self.edge_faces[self.face_edges.long()]  # (F, 3, 2)
        own = torch.arange(len(self.faces), dtype=torch.int32, device=self.faces.device)[:, None]
        across = torch.where(pair[..., 0] == own, pair[..., 1], pair[..., 0])
        return torch.where(self.edge_uses[self.face_edges.long()] == 2, across, -1)

    def vertex_faces(self) -> tuple[Tensor, Tensor]:
        """The faces of vertex v, faces[offsets[v]:offsets[v + 1]], as (offsets, faces) int32."""
        owner, order = torch.sort(self.faces.flatten().long(), stable=True)
        return self._offsets(owner), (order // 3).int()

    def vertex_neighbors(self) -> tuple[Tensor, Tensor]:
        """The vertices joined to each by an edge, as (offsets, vertices) like `vertex_faces`."""
        both = torch.cat([self.edges, self.edges.flip(1)]).long()
        owner, order = torch.sort(both[:, 0], stable=True)
        return self._offsets(owner), both[order, 1].int()

    def face_components(self) -> Tensor:
        """Number (F,) int32 of the piece of each face; edges join the faces of a piece."""
        before, after = self._uses_of_one_edge()
        label, _ = connected_labels(torch.stack([before // 3, after // 3]), len(self.faces))
        return label.int()

    @property
    def components(self) -> int:
        """Number of pieces; two pieces may touch in a vertex."""
        return int(self.face_components().max()) + 1 if len(self.faces) else 0

    @property
    def is_closed(self) -> bool:
        """Whether no edge is a boundary."""
        return not bool((self.edge_uses == 1).any())

    @property
    def is_wound_consistently(self) -> bool:
        """Whether each directed edge is used at most once."""
        return len(self.miswound_edges()) == 0

    @property
    def is_manifold(self) -> bool:
        """Whether no edge has more than two faces and no vertex more than one fan."""
        return not bool((self.edge_uses > 2).any()) and len(self.nonmanifold_vertices()) == 0

    @property
    def euler_characteristic(self) -> int:
        """Vertices in use - edges + faces."""
        return len(torch.unique(self.faces)) - len(self.edges) + len(self.faces)

    @property
    def genus(self) -> int | None:
        """Handles over all pieces; None unless closed, manifold and consistently wound."""
        if not (self.is_closed and self.is_wound_consistently and self.is_manifold):
            return None
        return self.components - self.euler_characteristic // 2

    def _uses_of_one_edge(self) -> tuple[Tensor, Tensor]:
        """Pairs of directed edges (3 face + k) that follow each other on one undirected edge."""
        edge, order = torch.sort(self.face_edges.flatten(), stable=True)
        same = edge[1:] == edge[:-1]
        return order[:-1][same], order[1:][same]

    def _offsets(self, owner: Tensor) -> Tensor:
        counts = torch.bincount(owner, minlength=self.vertex_count)
        return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).int()


def _where(mask: Tensor) -> Tensor:
    return mask.nonzero()[:, 0].int()


def _corner_at(corners: Tensor, use: Tensor, end: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The corner (3 face + k) of a directed edge at its lower (`end` minimum) or higher vertex."""
    following = use - use % 3 + (use + 1) % 3
    return torch.where(end(corners[use], corners[following]) == corners[use], use, following)


def connected_labels(pairs: Tensor, count: int) -> tuple[Tensor, int]:
    """Labels (count,) int64 and number of the components of a graph with edges `pairs` (2, K)."""
    ends = pairs.cpu().numpy()
    links = coo_array((torch.ones(ends.shape[1]).numpy(), (ends[0], ends[1])), shape=(count, count))
    found, label = connected_components(links, directed=False)
    return torch.from_numpy(label).to(pairs.device, torch.int64), int(found)
