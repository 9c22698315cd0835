function errors = score_3dhp_errors(file, truth)
% Errors of an inference_data_<setting>.mat: a cell array, sequences x sampling steps, of 17 x valid frames, mm.
%
% In the file each of TS1..TS6 is 3 x 17 x frames x steps, mm, relative to the pelvis (with one step, the last size
% may be missing). A cell is empty where predictions or annotations are missing.
    names = score_3dhp_names();
    data = load(file);
    errors = {};
    for i = 1:6
        sequence = sprintf('TS%d', i);
        if isempty(truth(i).poses)
            continue
        end
        if ~isfield(data, sequence)
            fprintf('%s has no %s: left out\n', file, sequence);
            continue
        end
        poses = double(data.(sequence));
        if size(poses, 1) ~= 3 || size(poses, 2) ~= 17 || ndims(poses) > 4
            error('%s: %s has size %s, expected 3x17xframesxsteps', file, sequence, mat2str(size(poses)));
        end
        num_frames = size(truth(i).poses, 3);
        if size(poses, 3) ~= num_frames
            error('%s: %s has %d frames, expected the %d of its annot_data.mat', file, sequence, size(poses, 3), ...
                  num_frames);
        end
        if ~all(isfinite(poses(:)))
            error('%s: %s has numbers that are not finite', file, sequence);
        end
        root = abs(poses(:, names.root, :));
        if max(root(:)) > 1
            error('%s: the pelvis of %s is %.0f mm off 0, expected poses relative to it', file, sequence, max(root(:)));
        end
        if max(abs(poses(:))) < 10
            error('%s: no joint of %s is 10 mm from the root, expected mm (is it metres?)', file, sequence);
        end
        num_steps = size(poses, 4);
        if isempty(errors)
            errors = cell(6, num_steps);
        elseif size(errors, 2) ~= num_steps
            error('%s: %s has %d sampling steps, expected %d as the others have', file, sequence, num_steps, ...
                  size(errors, 2));
        end
        for k = 1:num_steps
            difference = poses(:, :, truth(i).valid, k) - truth(i).poses(:, :, truth(i).valid);
            errors{i, k} = reshape(sqrt(sum(difference .^ 2, 1)), 17, []);
        end
    end
    if isempty(errors)
        error('%s and the test set have no sequence in common', file);
    end
end
