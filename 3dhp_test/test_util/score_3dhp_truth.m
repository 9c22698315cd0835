function truth = score_3dhp_truth(test_set, annotation)
% Annotations of TS1..TS6, as far as they are there.
%
% truth(i).poses     3 x 17 x frames, mm, relative to the pelvis; empty where the sequence is missing
% truth(i).valid     1 x frames, true where the frame counts
% truth(i).activity  1 x frames, 1..7
    names = score_3dhp_names();
    truth = repmat(struct('poses', [], 'valid', [], 'activity', []), 6, 1);
    num_found = 0;
    for i = 1:6
        file = fullfile(test_set, sprintf('TS%d', i), 'annot_data.mat');
        if exist(file, 'file') ~= 2
            fprintf('%s not found: left out\n', file);
            continue
        end
        % By name: Octave cannot read the cell array that is in there too. It gives v7.3's sizes as MATLAB does.
        data = load(file, annotation, 'valid_frame', 'activity_annotation');
        for name = {annotation, 'valid_frame', 'activity_annotation'}
            if ~isfield(data, name{1})
                error('%s has no %s', file, name{1});
            end
        end
        poses = double(data.(annotation));
        sizes = size(poses);
        if any(sizes(1:2) ~= [3 17]) || max([sizes(3:end) 1]) * 51 ~= numel(poses)
            error('%s: %s has size %s, expected 3x17x1xframes', file, annotation, mat2str(sizes));
        end
        poses = reshape(poses, 3, 17, []);
        num_frames = size(poses, 3);
        if numel(data.valid_frame) ~= num_frames || numel(data.activity_annotation) ~= num_frames
            error('%s: %d valid_frame and %d activity_annotation, expected %d as %s has', file, ...
                  numel(data.valid_frame), numel(data.activity_annotation), num_frames, annotation);
        end
        if ~all(ismember(data.valid_frame(:), [0 1]))
            error('%s: valid_frame has values other than 0 and 1', file);
        end
        if ~all(isfinite(poses(:)))
            error('%s: %s has numbers that are not finite', file, annotation);
        end
        truth(i).poses = poses - repmat(poses(:, names.root, :), [1 17 1]);
        truth(i).valid = reshape(data.valid_frame ~= 0, 1, []);
        truth(i).activity = double(reshape(data.activity_annotation, 1, []));
        num_found = num_found + 1;
    end
    if num_found == 0
        error('%s has no TS1/annot_data.mat, ..., TS6/annot_data.mat', test_set);
    end
end
